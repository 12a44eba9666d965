"""SynthGain's library: data, GAN, classifier, metrics, report. It imports nothing from `stages`."""
