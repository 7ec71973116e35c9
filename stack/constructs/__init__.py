"""One construct per concern of the pipeline; `stack.telemetry` composes them."""
