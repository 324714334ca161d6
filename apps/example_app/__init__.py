"""The example app: content that costs credits to create."""
