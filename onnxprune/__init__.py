"""Structured channel pruning for ONNX files."""
