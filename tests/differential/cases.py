"""The raw requests: each is sent as it stands, followed by `SENTINEL`, which tells where a parser thinks that the case ended.

Owns the bytes alone. Names are unique, and group by what before the first blank. Source: RFC 9112, RFC 9110, and what was found against servers
before: checklist part 2, rows 1 to 15.
"""

SENTINEL = b"GET /sentinel HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

POST = b"POST /case HTTP/1.1\r\nHost: x\r\n"
GET = b"GET /case HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def _cases():
    # -- lengths
    for name, value in [
        ("5", b"5"), ("0", b"0"), ("00005", b"00005"), ("+5", b"+5"), ("-1", b"-1"), ("0x5", b"0x5"), ("1_0", b"1_0"), ("empty", b""), ("5.0", b"5.0"),
        ("5 5", b"5 5"), ("5,5", b"5,5"), ("5, 6", b"5, 6"), ("letters", b"five"), ("tab before", b"\t5"), ("blank after", b"5  "), ("NUL", b"5\0"),
        ("2^64+5", b"18446744073709551621"), ("30 digits", b"0" * 29 + b"5"), ("fullwidth", "５".encode()), ("vertical tab", b"\x0b5"), ("quoted", b'"5"'),
    ]:
        yield f"length {name}", POST + b"Content-Length: " + value + b"\r\n\r\nabcde"
    yield "length twice same", POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde"
    yield "length twice other", POST + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nabcde"
    yield "length twice other case", POST + b"Content-Length: 5\r\ncontent-length: 6\r\n\r\nabcdeX"
    yield "length on GET", GET + b"Content-Length: 5\r\n\r\nabcde"
    yield "length named with underscore", POST + b"Content_Length: 5\r\n\r\n"
    yield "length none on POST", POST + b"\r\n"
    # -- transfer codings
    for name, value in [
        ("chunked", b"chunked"), ("CHUNKED", b"CHUNKED"), ("xchunked", b"xchunked"), ("chunkedx", b"chunkedx"), ("identity", b"identity"), ("gzip", b"gzip"),
        ("gzip, chunked", b"gzip, chunked"), ("chunked, gzip", b"chunked, gzip"), ("chunked, identity", b"chunked, identity"), ("chunked, chunked", b"chunked, chunked"),
        ("comma first", b",chunked"), ("comma last", b"chunked,"), ("parameter", b"chunked;q=1"), ("quoted", b'"chunked"'), ("nbsp", b"\xa0chunked"),
        ("vertical tab", b"\x0bchunked"), ("tab", b"\tchunked"), ("NUL", b"chunked\0"), ("empty", b""), ("blank inside", b"chun ked"), ("bare CR", b"chunked\rX"),
    ]:
        yield f"coding {name}", POST + b"Transfer-Encoding: " + value + b"\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    yield "coding and length", POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    yield "coding and length behind", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 15\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    yield "coding and length 0", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    yield "coding identity and length", POST + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nabcde"
    yield "coding twice", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    yield "coding twice other", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    yield "coding blank before colon", POST + b"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\nabcde"
    yield "coding with underscore", POST + b"Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nabcde"
    yield "coding folded", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    yield "coding behind a fold", POST + b"X: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nabcde"
    yield "coding behind a bare LF", POST + b"X: a\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nabcde"
    yield "coding behind a bare CR", POST + b"X: a\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nabcde"
    yield "coding on 1.0", b"POST /case HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    # -- chunks
    for name, body in [
        ("plain", b"5\r\nabcde\r\n0\r\n\r\n"), ("upper case", b"A\r\nabcdefghij\r\n0\r\n\r\n"), ("zeros before", b"0005\r\nabcde\r\n0\r\n\r\n"),
        ("many zeros", b"0" * 20 + b"5\r\nabcde\r\n0\r\n\r\n"), ("0x5", b"0x5\r\nabcde\r\n0\r\n\r\n"), ("5_0", b"0_5\r\nabcde\r\n0\r\n\r\n"), ("+5", b"+5\r\nabcde\r\n0\r\n\r\n"),
        ("-5", b"-5\r\nabcde\r\n0\r\n\r\n"), ("blank before", b" 5\r\nabcde\r\n0\r\n\r\n"), ("blank after", b"5 \r\nabcde\r\n0\r\n\r\n"), ("tab after", b"5\t\r\nabcde\r\n0\r\n\r\n"),
        ("empty size", b"\r\nabcde\r\n0\r\n\r\n"), ("over u64", b"10000000000000005\r\nabcde\r\n0\r\n\r\n"), ("over i64", b"8000000000000005\r\nabcde\r\n0\r\n\r\n"),
        ("extension", b"5;a=b\r\nabcde\r\n0;c\r\n\r\n"), ("extension quoted", b'5;a="b;c"\r\nabcde\r\n0\r\n\r\n'), ("extension with LF", b"5;a\nabcde\r\n0\r\n\r\n"),
        ("extension with CR", b"5;a\rb\r\nabcde\r\n0\r\n\r\n"), ("extension with CR LF in quotes", b'5;a="\r\nabcde\r\n0\r\n\r\n'), ("extension huge", b"5;" + b"a" * 20000 + b"\r\nabcde\r\n0\r\n\r\n"),
        ("extension NUL", b"5;\0\r\nabcde\r\n0\r\n\r\n"), ("LF after size", b"5\nabcde\r\n0\r\n\r\n"), ("LF after data", b"5\r\nabcde\n0\r\n\r\n"), ("CR X after data", b"5\r\nabcde\rX0\r\n\r\n"),
        ("XY after data", b"5\r\nabcdeXY0\r\n\r\n"), ("nothing after data", b"5\r\nabcde0\r\n\r\n"), ("longer than said", b"5\r\nabcdef\r\n0\r\n\r\n"), ("LF at end", b"5\r\nabcde\r\n0\r\n\n"),
        ("LF LF at end", b"5\r\nabcde\r\n0\n\n"), ("CR at end", b"5\r\nabcde\r\n0\r\r\n"), ("trailer", b"5\r\nabcde\r\n0\r\nX-T: 1\r\n\r\n"), ("trailer length", b"5\r\nabcde\r\n0\r\nContent-Length: 50\r\n\r\n"),
        ("trailer LF", b"5\r\nabcde\r\n0\r\nX-T: 1\n\r\n"), ("trailer without colon", b"5\r\nabcde\r\n0\r\nbad\r\n\r\n"), ("two zeros", b"5\r\nabcde\r\n000\r\n\r\n"),
        ("second chunk bad", b"5\r\nabcde\r\nz\r\n\r\n"), ("zero with minus", b"5\r\nabcde\r\n-0\r\n\r\n"), ("size CR CR LF", b"5\r\r\nabcde\r\n0\r\n\r\n"),
    ]:
        yield f"chunk {name}", CHUNKED + body
    # -- lines and fields
    for name, head in [
        ("plain", GET + b"\r\n"), ("LF only", b"GET /case HTTP/1.1\nHost: x\n\n"), ("LF at end", GET + b"\n"), ("LF in fields", b"GET /case HTTP/1.1\r\nHost: x\nA: b\r\n\r\n"),
        ("CR only", b"GET /case HTTP/1.1\rHost: x\r\r"), ("CR inside a value", GET + b"A: b\rc\r\n\r\n"), ("NUL in value", GET + b"A: b\0c\r\n\r\n"), ("NUL in name", GET + b"A\0: b\r\n\r\n"),
        ("ESC in value", GET + b"A: \x1b[0m\r\n\r\n"), ("DEL in value", GET + b"A: \x7f\r\n\r\n"), ("fold", GET + b"A: b\r\n c\r\n\r\n"), ("fold first", b"GET /case HTTP/1.1\r\n A: b\r\nHost: x\r\n\r\n"),
        ("no colon", GET + b"abc\r\n\r\n"), ("empty name", GET + b": b\r\n\r\n"), ("blank before colon", GET + b"A : b\r\n\r\n"), ("tab before colon", GET + b"A\t: b\r\n\r\n"),
        ("blank in name", GET + b"A B: c\r\n\r\n"), ("bracket in name", GET + b"A[]: c\r\n\r\n"), ("high byte in name", GET + b"\xc3\xa4: c\r\n\r\n"), ("high byte in value", GET + b"A: \xc3\xa4\r\n\r\n"),
        ("empty value", GET + b"A:\r\n\r\n"), ("underscore name", GET + b"X_Forwarded_For: 1.2.3.4\r\n\r\n"), ("200 fields", GET + b"".join(b"A%d: b\r\n" % i for i in range(200)) + b"\r\n"),
        ("40 KB of head", GET + b"A: " + b"b" * 40000 + b"\r\n\r\n"), ("empty lines before", b"\r\n\r\n" + GET + b"\r\n"), ("LF before", b"\n" + GET + b"\r\n"), ("blank line with blank", b" \r\n" + GET + b"\r\n"),
        ("connection names length", POST + b"Connection: Content-Length\r\nContent-Length: 5\r\n\r\nabcde"), ("body without length", GET + b"\r\nabcde\r\n\r\n"),
    ]:
        yield f"field {name}", head
    # -- the request line
    for name, line in [
        ("two blanks", b"GET  /case HTTP/1.1"), ("tab", b"GET\t/case HTTP/1.1"), ("blank at end", b"GET /case HTTP/1.1 "), ("blank in target", b"GET /ca se HTTP/1.1"), ("no version", b"GET /case"),
        ("version 0.9", b"GET /case HTTP/0.9"), ("version 1.2", b"GET /case HTTP/1.2"), ("version 1.10", b"GET /case HTTP/1.10"), ("version 2.0", b"GET /case HTTP/2.0"), ("version 11", b"GET /case HTTP/11"),
        ("version lower case", b"GET /case http/1.1"), ("version XTTP", b"GET /case XTTP/1.1"), ("lower case method", b"get /case HTTP/1.1"), ("odd method", b"G@T /case HTTP/1.1"), ("own method", b"BREW /case HTTP/1.1"),
        ("long method", b"A" * 100 + b" /case HTTP/1.1"), ("no slash", b"GET case HTTP/1.1"), ("fragment", b"GET /case#x HTTP/1.1"), ("NUL in target", b"GET /ca\0se HTTP/1.1"), ("high byte in target", b"GET /c\xe4se HTTP/1.1"),
        ("control in target", b"GET /ca\x01se HTTP/1.1"), ("absolute", b"GET http://x/case HTTP/1.1"), ("absolute other host", b"GET http://y/case HTTP/1.1"), ("absolute no host", b"GET http:///case HTTP/1.1"),
        ("absolute ftp", b"GET ftp://x/case HTTP/1.1"), ("asterisk GET", b"GET * HTTP/1.1"), ("connect", b"CONNECT x:80 HTTP/1.1"), ("10 KB target", b"GET /" + b"a" * 10000 + b" HTTP/1.1"), ("HTTP/1.1 in target", b"GET /case HTTP/1.1 HTTP/1.1"),
    ]:
        yield f"line {name}", line + b"\r\nHost: x\r\n\r\n"
    # -- Host
    for name, fields in [
        ("none", b""), ("twice", b"Host: x\r\nHost: x\r\n"), ("twice other", b"Host: x\r\nHost: y\r\n"), ("empty", b"Host:\r\n"), ("userinfo", b"Host: a@x\r\n"), ("blank", b"Host: x y\r\n"), ("slash", b"Host: x/y\r\n"),
        ("port letters", b"Host: x:abc\r\n"), ("port large", b"Host: x:99999\r\n"), ("comma", b"Host: x, y\r\n"), ("IPv6", b"Host: [::1]:80\r\n"), ("IPv6 broken", b"Host: [::1\r\n"), ("NUL", b"Host: x\0y\r\n"), ("underscore", b"Host: a_b\r\n"),
    ]:
        yield f"host {name}", b"GET /case HTTP/1.1\r\n" + fields + b"\r\n"
    yield "host none on 1.0", b"GET /case HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"


CASES = dict(_cases())
