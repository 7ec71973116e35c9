"""The CDKTF stack of the telemetry pipeline, its Lambda, and the engines that deploy it."""
