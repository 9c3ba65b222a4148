import socket
import threading

from bench.client import receive


def test_an_answer_is_read_to_its_end_whatever_other_lengths_its_headers_tell():
    server, client = socket.socketpair()
    head = b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: 1\r\nContent-Length: 5\r\n\r\n"
    with server, client:
        server.sendall(head)  # its body comes when its headers have been read
        later = threading.Timer(0.1, server.sendall, [b"abcde"])
        later.start()
        receive(client)
        later.join()
        client.setblocking(False)
        server.sendall(b"NEXT")
        assert client.recv(99) == b"NEXT"
