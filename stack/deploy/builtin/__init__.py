"""The builtin engine: Terraform JSON onto the local cloud, without Terraform."""
