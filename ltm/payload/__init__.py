"""Where values lie that are too large for their catalog row: the payload store and its codecs."""
