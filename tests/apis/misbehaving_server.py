"""A web server on 127.0.0.1 that fails in every way a download has to survive."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Serve ``server.files``; the first folder of the path names the fault."""

    def log_message(self, *args):
        pass

    def do_GET(self):
        fault, _, name = self.path.strip('/').partition('/')
        self.server.requests.append((self.path, self.headers.get('Range')))
        content = self.server.files.get(name)
        if fault == 'missing' or content is None:
            self.send_error(404)
        elif fault in ('redirect', 'elsewhere'):
            scheme = 'http' if fault == 'redirect' else 'ftp'
            self.send_response(302)
            self.send_header('Location', f'{scheme}://{self.headers["Host"]}/good/{name}')
            self.end_headers()
        elif fault == 'busy' and self.server.requests.count((self.path, None)) == 1:
            self.send_error(503)
        else:
            self._send(fault, content)

    def _send(self, fault, content):
        start = 0
        wanted = self.headers.get('Range')
        if wanted and fault != 'norange' and self.headers.get('If-Range') == '"v1"':
            start = int(wanted.removeprefix('bytes=').rstrip('-'))
            self.send_response(206)
            self.send_header('Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}')
        else:
            self.send_response(200)
        self.send_header('ETag', '"v2"' if fault == 'changed' else '"v1"')
        self.send_header('Content-Length', str(len(content) - start))
        self.end_headers()
        first = len([one for one in self.server.requests if one[0] == self.path]) == 1
        if fault == 'cut' or (fault in ('cutonce', 'norange') and first):
            self.wfile.write(content[start : start + (len(content) - start) // 2])
            return
        if fault == 'slow':
            self.wfile.write(content[:10])
            self.wfile.flush()
            time.sleep(1.5)
            return
        self.wfile.write(content[start:])


@contextmanager
def running_server(files):
    """Yield (address, list of requests)."""
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.files, server.requests = files, []
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_address[1]}', server.requests
    finally:
        server.shutdown()
        server.server_close()
