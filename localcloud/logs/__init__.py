"""CloudWatch Logs in front of moto's: what comes in is made metrics of."""
