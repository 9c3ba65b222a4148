"""`python -m service` is `resnet-heads`."""

from service.cli.main import main

if __name__ == "__main__":
    main()
