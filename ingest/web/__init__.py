"""The HTTP side of the service. Nothing here loads anything: it hands bytes to `receiving` and asks `jobs`.

From the socket inwards:
`listening`  the sockets; a line for a person when the address cannot be used
`edge`       hypercorn's HTTP/1.1 under our supervision: crashes contained, sends bounded, a stop that cannot hang
`protocol`   what of HTTP/1.1 and WebSocket is spoken at all
`app`        the ASGI application: upload paths in front, Quart-Trio behind; the access log
`requests`   what every response carries: the id of its request, security headers
`guard`      who may pass: `access` has all routes, `auth` checks keys, `metering` counts bytes and `buckets` rates
`uploads`    raw and multipart bodies (`body`, `form`, `multipart`), read with back-pressure into `receiving`
`stream`     live progress to whoever reads along; `tellers` says it as server-sent events or by WebSocket,
             to many at once by `atonce`
`api`        the JSON routes over jobs and datasets; `health` what probes ask for
`control`    the routes that change a job
`metrics`    what Prometheus asks for; `routes` the templates that its labels are made of
`openapi`    the document of all routes; `docs` serves it, `docspage` makes pages of it, with `html` and `problemtexts`
`options`    every request option, parsed and refused in one place
`problems`   every error code with its status; `answers` the JSON both paths send
"""
