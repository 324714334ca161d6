"""What travels through Kafka: names of topics, partitions of owners, and the codecs of commands and events."""
