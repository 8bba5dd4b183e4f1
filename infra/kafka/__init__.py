"""The bus on Apache Kafka: topics, the relay that fills them, the subscriptions that read them, a native broker."""
