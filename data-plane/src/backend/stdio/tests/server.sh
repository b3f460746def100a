# A legacy MCP server that starts at once. $1: a file that counts the starts, $2: what it does when asked for the
# modern era. The handshake is request 1 of its process.
echo "$$" >> "$1"
sleep 1000 & # a family
while read -r line; do
    case "$line" in
    *'"initialize"'*) echo '{"jsonrpc":"2.0","id":1,"result":{}}' ;;
    *'"server/discover"'*)
        case "$2" in
        refuse) echo '{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}' ;;
        exit) exit 1 ;;
        esac
        ;;
    *'"die"'*) exit 3 ;;
    esac
done
