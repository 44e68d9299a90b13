"""Networks: timm backbones, the CIFAR networks of KD papers, small students, ensembles and exported programs."""
