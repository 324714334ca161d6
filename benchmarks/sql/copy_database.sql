-- {name} and {template} are made up by the benchmark.
CREATE DATABASE "{name}" TEMPLATE "{template}"
