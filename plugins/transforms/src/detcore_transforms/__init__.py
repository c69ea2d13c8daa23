"""What torchvision's transforms lack for detection. Boxes, masks, outlines and pixels move together."""
