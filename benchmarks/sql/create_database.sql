-- {name} is made up by the benchmark.
CREATE DATABASE "{name}"
