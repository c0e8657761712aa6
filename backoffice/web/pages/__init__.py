"""Pages: Genshi templates with the values of documents and forms.

Owns how records look to people. A page is a function of the request context and a
record; it changes nothing. It may import ``context``, ``queries``, ``responses`` and the
reports; it knows neither handlers nor the table of addresses.
"""
