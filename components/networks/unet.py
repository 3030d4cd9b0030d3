"""The U-Net of diffusers as it is; see components/networks/hf.py on how it is imported."""

from components.networks import hf

UNet2DModel = hf.network("unets.unet_2d").UNet2DModel
