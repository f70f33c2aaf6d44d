"""Graphs evaluated in ONNX Runtime: whole, or as far as some node; and the linear algebra of fits.

In: a `Graph` and batches of inputs. Out: sessions, or values of tensors.

- `sessions`: a session for a graph of any size; weights beyond protobuf's limit are passed as arrays;
- `prefix`: every node runs once per batch, however often the evaluation stops (`Prefix`); what is needed
  later is in memory, or beyond a budget in files (`ActivationStore`);
- `expectation`: means of activations without samples, from BatchNormalization;
- `linalg`: symmetric systems, on as many threads as pay; `timing`: how latency is measured.

Work runs in this process; where candidates are made is decided by the `executor` of `pipeline.prune`.
"""
