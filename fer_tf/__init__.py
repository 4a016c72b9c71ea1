"""fer_tf: facial-expression classification with EfficientNet-B0, from FER-2013 to a quantised LiteRT file."""

__version__ = "0.1.0"
