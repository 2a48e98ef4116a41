"""The transfer benchmarks: an mmdetection plugin and the data it runs on."""
