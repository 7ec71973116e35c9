"""Alarms that report to the topic, and the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dashboards.cloudwatch import telemetry_dashboard
from stack.alarms import alarm_specs
from stack.bindings import aws

if TYPE_CHECKING:
    from stack.constructs.scope import Scope


def alarms(scope: Scope, topic: Any) -> dict[str, Any]:
    """Every alarm by its short name."""
    made = {}
    for spec in alarm_specs(scope.config):
        percentile = spec.statistic.startswith("p")
        made[spec.short] = aws.cloudwatch_metric_alarm.CloudwatchMetricAlarm(
            scope.stack,
            f"alarm-{spec.short}",
            alarm_name=scope.names(spec.short),
            alarm_description=spec.description,
            namespace=spec.namespace,
            metric_name=spec.metric,
            dimensions=spec.dimensions,
            statistic=None if percentile else spec.statistic,
            extended_statistic=spec.statistic if percentile else None,
            period=scope.config.alarm_period_s,
            evaluation_periods=spec.periods,
            datapoints_to_alarm=spec.periods,
            threshold=spec.threshold,
            comparison_operator=spec.comparison,
            treat_missing_data=spec.missing,
            alarm_actions=[topic.arn],
            ok_actions=[topic.arn],
        )
    return made


def dashboard(scope: Scope) -> Any:
    """The CloudWatch dashboard of the environment."""
    body = telemetry_dashboard(scope.config, scope.account_id).to_json()
    return aws.cloudwatch_dashboard.CloudwatchDashboard(
        scope.stack,
        "dashboard",
        dashboard_name=scope.names("telemetry"),
        dashboard_body=body,
    )
