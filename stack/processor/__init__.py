"""The Lambda processor. It runs alone: nothing here imports anything else of fleetcast."""
