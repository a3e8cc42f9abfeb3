include test/bench/bench.mk
