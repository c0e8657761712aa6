# How the settings of an installed Backoffice differ from the defaults, each beside
# its default:  sed -f package/backoffice.ini.sed etc/backoffice.ini
# The start of the first line of a section to the start of the next is the section.

/^\[database\]/,/^\[/ {
    s|^#uri = .*|&\nuri = sqlite:backoffice.sqlite|
}
/^\[paths\]/,/^\[/ {
    s|^#home = .*|&\nhome = /var/lib/backoffice|
    s|^#work = .*|&\nwork = work|
    s|^#logs = .*|&\nlogs = /var/log/backoffice|
    s|^#run = .*|&\nrun = /run/backoffice|
    s|^#roots = .*|&\nroots = media|
}
/^\[log\]/,/^\[/ {
    s|^#to = .*|&\nto = files|
    s|^#folder = .*|&\nfolder = /var/log/backoffice|
}
/^\[web\]/,/^\[/ {
    s|^#listen = .*|&\nlisten = unix:/run/backoffice/web.sock|
    s|^#maintenance = .*|&\nmaintenance = maintenance|
}
/^\[auth\]/,/^\[/ {
    s|^#required = .*|&\nrequired = yes|
}
/^#\[target site\]/,/^$/ {
    s|^#\(\[target site\]\)|\1|
    s|^#path = .*|&\npath = publish|
}
