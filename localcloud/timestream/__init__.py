"""Amazon Timestream for LiveAnalytics: the write API, and SQL over DuckDB."""
