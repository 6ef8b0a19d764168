"""Links of a site: to files, to anchors, to elsewhere."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tsp.book.links import broken_links, main, outside_links


@pytest.fixture
def site(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "other.html").write_text('<h1 id="überschrift">x</h1><a name="old"></a>')
    (tmp_path / "a file.csv").write_text("x")
    (tmp_path / "index.html").write_text(
        """<h1 id="here">x</h1><a href="#here"></a><a href="#"></a><a href="#top"></a>
        <a href="sub/other.html#%C3%BCberschrift"></a><a href="sub/other.html#old"></a>
        <a href="a%20file.csv?v=1"></a><img src="data:image/png;base64,x">
        <a href="mailto:nobody@example.org"></a><a href="https://example.org/page#x"></a>"""
    )
    return tmp_path


def test_links_that_lead_somewhere_are_fine(site):
    assert broken_links(site) == []


@pytest.mark.parametrize(
    "address", ["#nowhere", "sub/other.html#here", "sub/none.html", "picture.png", "sub/"]
)
def test_a_link_that_leads_nowhere_is_named_with_its_page(site, address):
    (site / "sub" / "page.html").write_text(
        f'<a href="../{address}"></a>' if address[0] != "#" else f'<a href="{address}"></a>'
    )
    shown = address if address[0] == "#" else f"../{address}"
    assert broken_links(site) == [f"sub/page.html: {shown}"]


def test_addresses_outside_are_listed_once(site):
    (site / "sub" / "page.html").write_text('<a href="https://example.org/page#x"></a>')
    assert outside_links(site) == ["https://example.org/page#x"]


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/there" else 404)
        self.end_headers()

    def log_message(self, *_): ...


def test_outside_links_are_asked_for_and_the_dead_named(tmp_path, capsys):
    server = HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_port}"
    (tmp_path / "index.html").write_text(f'<a href="{home}/there"></a><a href="{home}/gone"></a>')
    assert main([str(tmp_path)]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"404  {home}/gone"
    assert told[1] == f"200  {home}/there"
    (tmp_path / "index.html").write_text(f'<a href="{home}/there"></a>')
    assert main([str(tmp_path)]) == 0
    server.shutdown()


def test_a_site_that_was_not_built_is_told(tmp_path, capsys):
    assert main([str(tmp_path / "none")]) == 2
    assert "make book" in capsys.readouterr().err
