"""Old events in files: the archive that `ledger archive` writes and `ledger verify --archive` checks.

One archive is one folder: `manifest.json`, and for each partition the events from the first one on, in files of lines
of JSON that are compressed by gzip. Everything that proves them is in the files themselves: every line carries the hash
of the event before it and its own. The format is described in docs/reference.md.
"""
