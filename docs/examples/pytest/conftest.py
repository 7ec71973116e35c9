pytest_plugins = ["fleetcast.pytest_plugin"]
