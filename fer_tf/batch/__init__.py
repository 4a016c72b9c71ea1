"""Tables of pictures, millions of rows: read, classified and written part by part; needs the extra `batch`."""

from fer_tf.batch.local import Summary, classify
from fer_tf.batch.table import classify_table

__all__ = ["Summary", "classify", "classify_table"]
