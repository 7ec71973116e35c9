"""How devices come to IoT Core by themselves, and what IoT Core logs of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stack.bindings import aws
from stack.constructs.scope import allow, policy, role

if TYPE_CHECKING:
    from stack.constructs.scope import Scope

# Where IoT Core writes to, of the whole account.
LOG_GROUP = "AWSIotLogsV2"


def provisioning(scope: Scope) -> Any:
    """The fleet provisioning template, its role, and the policy of claim certificates.

    A device that holds a claim certificate may ask for a certificate of its own and for nothing else;
    what it becomes is for the template to say.
    """
    template, thing = scope.names.template, scope.names("*")
    aws.iot_policy.IotPolicy(
        scope.stack, "claim-policy", name=scope.names("claim"), policy=_claim(scope, template)
    )
    statements = [
        allow(["iot:CreateThing", "iot:DescribeThing"], [scope.arn("iot", f"thing/{thing}")]),
        allow(
            ["iot:AddThingToThingGroup"],
            [
                scope.arn("iot", f"thing/{thing}"),
                scope.arn("iot", f"thinggroup/{scope.names('devices')}"),
            ],
        ),
        # AWS knows no resource of this one.
        allow(["iot:AttachThingPrincipal"], ["*"]),
        # Certificates are named by their digests, which nobody knows before they are made.
        allow(
            ["iot:AttachPolicy", "iot:DescribeCertificate", "iot:UpdateCertificate"],
            [scope.arn("iot", "cert/*")],
        ),
    ]
    provisions = role(scope, "provisioning", "iot.amazonaws.com", statements)
    return aws.iot_provisioning_template.IotProvisioningTemplate(
        scope.stack,
        "fleet-template",
        name=template,
        description="Devices that come with a claim certificate",
        enabled=True,
        provisioning_role_arn=provisions.arn,
        template_body=_template(scope),
    )


def iot_logging(scope: Scope) -> None:
    """IoT Core's logging, if it is asked for: one setting of the whole account and region."""
    if scope.config.iot_log_level is None:
        return
    group = scope.arn("logs", f"log-group:{LOG_GROUP}")
    actions = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
    writer = role(scope, "iot-logs", "iot.amazonaws.com", [allow(actions, [group, f"{group}:*"])])
    aws.iot_logging_options.IotLoggingOptions(
        scope.stack,
        "iot-logging",
        default_log_level=scope.config.iot_log_level,
        role_arn=writer.arn,
    )


def _claim(scope: Scope, template: str) -> str:
    """Connect under a name of its own, ask, and hear the answers."""
    asks = [
        "$aws/certificates/create-from-csr/json",
        f"$aws/provisioning-templates/{template}/provision/json",
    ]
    answers = [f"{topic}/{which}" for topic in asks for which in ("accepted", "rejected")]

    def arns(kind: str, topics: list[str]) -> list[str]:
        return [scope.arn("iot", f"{kind}/{topic}") for topic in topics]

    return policy(
        allow(["iot:Connect"], [scope.arn("iot", f"client/{scope.names('claim-*')}")]),
        allow(["iot:Publish"], arns("topic", asks)),
        allow(["iot:Receive"], arns("topic", answers)),
        allow(["iot:Subscribe"], arns("topicfilter", answers)),
    )


def _template(scope: Scope) -> str:
    """A thing of the stack's type and group, named as all things are, with the devices' policy."""
    prefix, _, suffix = scope.names("*").partition("*")
    thing = {"Fn::Join": ["", [prefix, {"Ref": "Device"}, suffix]]}
    return json.dumps(
        {
            "Parameters": {"Device": {"Type": "String"}},
            "Resources": {
                "certificate": {
                    "Type": "AWS::IoT::Certificate",
                    "Properties": {
                        "CertificateId": {"Ref": "AWS::IoT::Certificate::Id"},
                        "Status": "Active",
                    },
                },
                "policy": {
                    "Type": "AWS::IoT::Policy",
                    "Properties": {"PolicyName": scope.names("device")},
                },
                "thing": {
                    "Type": "AWS::IoT::Thing",
                    "Properties": {
                        "ThingName": thing,
                        "ThingTypeName": scope.names("device"),
                        "ThingGroups": [scope.names("devices")],
                    },
                },
            },
        },
        sort_keys=True,
        # Terraform compares it letter by letter with what AWS tells of it.
        separators=(",", ":"),
    )
