"""The wire of Yandex Cloud Video: `.proto` files, and the stubs that `generate.py` makes of them."""
