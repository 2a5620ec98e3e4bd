"""What the configuration's keys mean, read from the YAML files and from the classes that they name."""
