"""Creates the versions in the store. Only this package and the keras engine import TensorFlow.

TensorFlow takes seconds to import, so what can be told without it is told before. `quiet_tensorflow` is
the first import of a module, or of a function, through which a command comes to Keras.
"""
