"""ShuffleNet backbones."""
