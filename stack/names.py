"""The names of all resources: `fleetcast-<what>-<environment>`, within AWS's limits."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "fleetcast"
# Parts of an environment's name that say that people depend on it.
PRODUCTION = {"live", "prd", "prod", "production"}


def is_production(environment: str) -> bool:
    """Whether an environment has the name of a production, such as `prod`, `eu-live` or `prod2`."""
    return any(part.rstrip("0123456789") in PRODUCTION for part in environment.split("-"))


@dataclass(frozen=True, slots=True)
class Names:
    """Names in one environment."""

    environment: str

    def __call__(self, what: str) -> str:
        """The name of a resource, such as `fleetcast-ingest-dev`."""
        return f"{PREFIX}-{what}-{self.environment}"

    def rule(self, what: str) -> str:
        """The name of an IoT topic rule, which may hold letters, digits and underscores only."""
        return self(what).replace("-", "_")

    def alias(self, what: str) -> str:
        """The alias of a KMS key."""
        return f"alias/{self(what)}"

    @property
    def function(self) -> str:
        """The processor Lambda."""
        return self("processor")

    @property
    def delivery_stream(self) -> str:
        """The Firehose delivery stream."""
        return self("archive")

    @property
    def stream(self) -> str:
        """The Kinesis stream."""
        return self("ingest")

    @property
    def template(self) -> str:
        """The fleet provisioning template; AWS takes 36 letters, which leaves no room for more."""
        return self("fleet")

    @property
    def topic_root(self) -> str:
        """The first level of MQTT topics of this environment."""
        return f"{PREFIX}-{self.environment}"
