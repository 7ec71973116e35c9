"""CloudWatch: metrics, metric math, alarms on schedule, dashboards."""
