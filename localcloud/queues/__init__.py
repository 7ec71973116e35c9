"""SQS: messages kept beside moto's queues, and receivers that wait without a thread."""
