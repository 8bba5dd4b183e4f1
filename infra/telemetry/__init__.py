"""Telemetry: traces by OpenTelemetry, numbers in Prometheus text. The libraries load when they are first needed."""
