"""IoT Core: an MQTT broker with mutual TLS, device policies, and topic rules."""
