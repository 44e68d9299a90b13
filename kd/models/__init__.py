"""Networks: timm backbones with attention, and students of our own."""
