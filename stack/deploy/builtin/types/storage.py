"""The S3 bucket and the resources that Terraform sets its properties with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from stack.deploy.builtin.calls import exists, means_gone, unless_gone
from stack.deploy.builtin.resource import Resource, block, tag_list

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from stack.deploy.builtin.resource import Arguments, Clients

_DELETE_AT_ONCE = 1000


async def _create_bucket(clients: Clients, new: Arguments) -> dict[str, Any]:
    s3, name = await clients("s3"), new["bucket"]
    await s3.create_bucket(Bucket=name)
    await _tag_bucket(s3, name, new)
    return _bucket_attributes(new)


async def _tag_bucket(s3: Any, name: str, new: Arguments) -> None:
    if new.get("tags"):
        await s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": tag_list(new)})
    else:
        await s3.delete_bucket_tagging(Bucket=name)


def _bucket_attributes(new: Arguments) -> dict[str, Any]:
    name = new["bucket"]
    return {
        "id": name,
        "bucket": name,
        "arn": f"arn:aws:s3:::{name}",
        "force_destroy": bool(new.get("force_destroy")),
    }


async def _read_bucket(clients: Clients, have: Mapping[str, Any]) -> bool:
    s3 = await clients("s3")
    return await exists(s3.head_bucket(Bucket=have["bucket"]))


async def _update_bucket(
    clients: Clients, have: Mapping[str, Any], _: Arguments, new: Arguments
) -> dict[str, Any]:
    await _tag_bucket(await clients("s3"), have["bucket"], new)
    return _bucket_attributes(new)


async def _delete_bucket(clients: Clients, have: Mapping[str, Any]) -> None:
    s3, name = await clients("s3"), have["bucket"]
    if not await _read_bucket(clients, have):
        return
    if have.get("force_destroy"):
        async for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
            doomed = [
                {"Key": item["Key"], "VersionId": item["VersionId"]}
                for kind in ("Versions", "DeleteMarkers")
                for item in page.get(kind, [])
            ]
            for first in range(0, len(doomed), _DELETE_AT_ONCE):
                part = doomed[first : first + _DELETE_AT_ONCE]
                await s3.delete_objects(Bucket=name, Delete={"Objects": part, "Quiet": True})
    await unless_gone(s3.delete_bucket(Bucket=name))


def _property(
    put: Callable[[Any, Arguments], Awaitable[Any]],
    get: Callable[[Any, str], Awaitable[Any]],
    drop: Callable[[Any, str], Awaitable[Any]] | None,
    schema: Mapping[str, Any],
    tells: Callable[[Mapping[str, Any]], bool] = lambda _: True,
) -> Resource:
    """A property of a bucket: set with one call, read with another, dropped with a third.

    `tells` says whether what was read has the property, where reading one never set is no error.
    """

    async def create(clients: Clients, new: Arguments) -> dict[str, Any]:
        await put(await clients("s3"), new)
        return {"id": new["bucket"], "bucket": new["bucket"]}

    async def read(clients: Clients, have: Mapping[str, Any]) -> bool:
        return await exists(get(await clients("s3"), have["bucket"]), tells)

    async def update(
        clients: Clients, _: Mapping[str, Any], __: Arguments, new: Arguments
    ) -> dict[str, Any]:
        return await create(clients, new)

    async def delete(clients: Clients, have: Mapping[str, Any]) -> None:
        if drop is None:
            return
        try:
            await drop(await clients("s3"), have["bucket"])
        except ClientError as error:
            if not means_gone(error):
                raise

    return Resource(
        schema={"bucket": None, **schema},
        create=create,
        read=read,
        update=update,
        delete=delete,
        replace_on=frozenset({"bucket"}),
    )


def _encryption(new: Arguments) -> dict[str, Any]:
    rules = []
    for rule in new["rule"]:
        by_default = block(rule["apply_server_side_encryption_by_default"])
        applied = {"SSEAlgorithm": by_default["sse_algorithm"]}
        if by_default.get("kms_master_key_id"):
            applied["KMSMasterKeyID"] = by_default["kms_master_key_id"]
        rules.append(
            {
                "ApplyServerSideEncryptionByDefault": applied,
                "BucketKeyEnabled": bool(rule.get("bucket_key_enabled")),
            }
        )
    return {"Rules": rules}


def _lifecycle(new: Arguments) -> dict[str, Any]:
    rules = []
    for rule in new["rule"]:
        made: dict[str, Any] = {
            "ID": rule["id"],
            "Status": rule["status"],
            "Filter": {"Prefix": block(rule.get("filter")).get("prefix", "")},
        }
        if rule.get("transition"):
            made["Transitions"] = [
                {"Days": int(step["days"]), "StorageClass": step["storage_class"]}
                for step in rule["transition"]
            ]
        if rule.get("expiration"):
            made["Expiration"] = {"Days": int(block(rule["expiration"])["days"])}
        if rule.get("abort_incomplete_multipart_upload"):
            days = int(block(rule["abort_incomplete_multipart_upload"])["days_after_initiation"])
            made["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": days}
        if rule.get("noncurrent_version_expiration"):
            days = int(block(rule["noncurrent_version_expiration"])["noncurrent_days"])
            made["NoncurrentVersionExpiration"] = {"NoncurrentDays": days}
        rules.append(made)
    return {"Rules": rules}


_BLOCKS = {
    "block_public_acls": "BlockPublicAcls",
    "block_public_policy": "BlockPublicPolicy",
    "ignore_public_acls": "IgnorePublicAcls",
    "restrict_public_buckets": "RestrictPublicBuckets",
}

TYPES = {
    "aws_s3_bucket": Resource(
        schema=dict.fromkeys(("bucket", "force_destroy", "tags")),
        create=_create_bucket,
        read=_read_bucket,
        update=_update_bucket,
        delete=_delete_bucket,
        replace_on=frozenset({"bucket"}),
        taggable=True,
    ),
    "aws_s3_bucket_versioning": _property(
        lambda s3, new: s3.put_bucket_versioning(
            Bucket=new["bucket"],
            VersioningConfiguration={"Status": block(new["versioning_configuration"])["status"]},
        ),
        lambda s3, name: s3.get_bucket_versioning(Bucket=name),
        None,
        {"versioning_configuration": {"status": None}},
        lambda told: "Status" in told,
    ),
    "aws_s3_bucket_server_side_encryption_configuration": _property(
        lambda s3, new: s3.put_bucket_encryption(
            Bucket=new["bucket"], ServerSideEncryptionConfiguration=_encryption(new)
        ),
        lambda s3, name: s3.get_bucket_encryption(Bucket=name),
        lambda s3, name: s3.delete_bucket_encryption(Bucket=name),
        {
            "rule": {
                "apply_server_side_encryption_by_default": {
                    "sse_algorithm": None,
                    "kms_master_key_id": None,
                },
                "bucket_key_enabled": None,
            }
        },
    ),
    "aws_s3_bucket_public_access_block": _property(
        lambda s3, new: s3.put_public_access_block(
            Bucket=new["bucket"],
            PublicAccessBlockConfiguration={
                name: bool(new.get(argument)) for argument, name in _BLOCKS.items()
            },
        ),
        lambda s3, name: s3.get_public_access_block(Bucket=name),
        lambda s3, name: s3.delete_public_access_block(Bucket=name),
        dict.fromkeys(_BLOCKS),
    ),
    "aws_s3_bucket_ownership_controls": _property(
        lambda s3, new: s3.put_bucket_ownership_controls(
            Bucket=new["bucket"],
            OwnershipControls={
                "Rules": [{"ObjectOwnership": block(new["rule"])["object_ownership"]}]
            },
        ),
        lambda s3, name: s3.get_bucket_ownership_controls(Bucket=name),
        lambda s3, name: s3.delete_bucket_ownership_controls(Bucket=name),
        {"rule": {"object_ownership": None}},
    ),
    "aws_s3_bucket_policy": _property(
        lambda s3, new: s3.put_bucket_policy(Bucket=new["bucket"], Policy=new["policy"]),
        lambda s3, name: s3.get_bucket_policy(Bucket=name),
        lambda s3, name: s3.delete_bucket_policy(Bucket=name),
        {"policy": None},
    ),
    "aws_s3_bucket_lifecycle_configuration": _property(
        lambda s3, new: s3.put_bucket_lifecycle_configuration(
            Bucket=new["bucket"], LifecycleConfiguration=_lifecycle(new)
        ),
        lambda s3, name: s3.get_bucket_lifecycle_configuration(Bucket=name),
        lambda s3, name: s3.delete_bucket_lifecycle(Bucket=name),
        {
            "rule": {
                "id": None,
                "status": None,
                "filter": {"prefix": None},
                "transition": {"days": None, "storage_class": None},
                "expiration": {"days": None},
                "noncurrent_version_expiration": {"noncurrent_days": None},
                "abort_incomplete_multipart_upload": {"days_after_initiation": None},
            }
        },
    ),
}
