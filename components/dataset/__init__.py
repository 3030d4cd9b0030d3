"""What a training or a measurement is fed: packs as tensors, order, random numbers, augmentation."""
