"""Load runs with Locust: the same fleet, the same ledger, the same verdict."""
