"""What crosses the wire between the pods: every frame on their ends of the bridge."""

import select
import socket
import struct
import threading

ETH_P_ALL = 3
ETH_P_IP = 0x0800
PACKET_RECEIVE_BUFFER = 16 * 1024 * 1024


class Capture:
    """Frames on some interfaces between start and stop; a context manager."""

    def __init__(self, interfaces):
        self.sockets = []
        for name in interfaces:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PACKET_RECEIVE_BUFFER)
            sock.bind((name, 0))
            sock.setblocking(False)
            self.sockets.append(sock)
        self.segments = {}  # (source, port, destination, port) -> {sequence number: payload}
        self.frames = 0
        self.stopping = False
        self.thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join()
        for sock in self.sockets:
            sock.close()

    def _read(self):
        while True:
            ready, _, _ = select.select(self.sockets, [], [], 0.1)
            if not ready and self.stopping:
                return
            for sock in ready:
                try:
                    self._frame(sock.recv(65536 + 64))
                except BlockingIOError:
                    pass

    def _frame(self, frame):
        self.frames += 1
        if len(frame) < 34 or struct.unpack_from("!H", frame, 12)[0] != ETH_P_IP:
            return
        header = (frame[14] & 15) * 4
        total, protocol = struct.unpack_from("!H", frame, 16)[0], frame[23]
        tcp = 14 + header
        if protocol != socket.IPPROTO_TCP or len(frame) < tcp + 20:
            return
        source, destination = socket.inet_ntoa(frame[26:30]), socket.inet_ntoa(frame[30:34])
        sport, dport, sequence = struct.unpack_from("!HHI", frame, tcp)
        payload = frame[tcp + (frame[tcp + 12] >> 4) * 4:14 + total]
        if payload:
            flow = self.segments.setdefault((source, sport, destination, dport), {})
            if len(payload) > len(flow.get(sequence, b"")):
                flow[sequence] = payload

    def flows(self, without=()):
        """flows are the bytes of each direction of each connection that has no end in `without`,
        in the order of their sequence numbers."""
        return {key: b"".join(payload for _, payload in sorted(flow.items()))
                for key, flow in self.segments.items()
                if key[0] not in without and key[2] not in without}


def is_tls(data):
    """is_tls says whether a direction of a connection, seen from its beginning or from a moment
    when it was idle, is TLS records and nothing else."""
    at = 0
    while at + 5 <= len(data):
        kind, major, length = data[at], data[at + 1], struct.unpack_from("!H", data, at + 3)[0]
        # change cipher spec, alert, handshake, application data; RFC 8446, 5.1 and 5.2
        if kind not in (20, 21, 22, 23) or major != 3 or length > 16384 + 256:
            return False
        at += 5 + length
    return at > 0
