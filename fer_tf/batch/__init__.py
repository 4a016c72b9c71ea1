"""Classifies tables of millions of pictures, part by part; needs the extra `batch`."""

from fer_tf.batch.job import classify
from fer_tf.batch.parts import Summary
from fer_tf.batch.table import classify_table

__all__ = ["Summary", "classify", "classify_table"]
