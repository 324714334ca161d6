"""The narrow protocol to Kafka, its implementation on aiokafka, and the tail reader that waits for outcomes."""
