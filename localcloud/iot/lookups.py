"""moto's registry of IoT found by key.

moto looks for a thing or a certificate among all there are, and to delete one certificate it looks
for each that is attached to anything: an hour for some thousand devices.
"""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def look_up_by_key() -> None:
    """Takes effect for the life of the process."""
    from moto.iot import exceptions, models  # noqa: PLC0415 - slow to import
    from moto.utilities.utils import get_partition  # noqa: PLC0415

    base: Any = models.IoTBackend
    principal_before = base._get_principal  # noqa: SLF001 - the gap itself

    def thing(self: Any, thing_name: str) -> Any:
        partition = get_partition(self.region_name)
        arn = f"arn:{partition}:iot:{self.region_name}:{self.account_id}:thing/{thing_name}"
        found = self.things.get(arn)
        if found is None:
            raise exceptions.ResourceNotFoundException
        return found

    def certificate(self: Any, certificate_id: str) -> Any:
        found = self.certificates.get(certificate_id)
        if found is None:
            raise exceptions.ResourceNotFoundException
        return found

    def principal(self: Any, principal_arn: str) -> Any:
        if ":cert/" not in principal_arn:
            return principal_before(self, principal_arn)
        found = self.certificates.get(principal_arn.rpartition("/")[2])
        if found is None or found.arn != principal_arn:
            raise exceptions.ResourceNotFoundException
        return found

    def may_delete(self: Any, cert: Any, force_delete: bool = False) -> None:  # noqa: FBT001, FBT002
        if cert.status == "ACTIVE":
            told = "Certificate must be deactivated (not ACTIVE) before deletion."
            raise exceptions.CertificateStateException(told, cert.certificate_id)
        if any(attached == cert.arn for attached, _ in self.principal_things):
            told = f"Things must be detached before deletion (arn: {cert.arn})"
            raise exceptions.DeleteConflictException(told)
        if not force_delete and any(target == cert.arn for target, _ in self.principal_policies):
            told = f"Certificate policies must be detached before deletion (arn: {cert.arn})"
            raise exceptions.DeleteConflictException(told)

    base.describe_thing = thing
    base.describe_certificate = certificate
    base._get_principal = principal  # noqa: SLF001
    base._validation_delete = may_delete  # noqa: SLF001
