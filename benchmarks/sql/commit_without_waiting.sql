-- Of what is lost by a crash here the whole benchmark is lost.
SET synchronous_commit = off
