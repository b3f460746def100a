# A legacy MCP server that starts at once. $1: a file that counts the starts, $2: what it does when asked for the
# modern era, or `late` to take its time. The handshake is request 1 of its process.
echo "$$" >> "$1"
sleep 60 & # a family, of those that end by themselves should a test leave them behind
while read -r line; do
    case "$line" in
    *'"initialize"'*)
        [ "$2" = late ] && sleep 2
        echo '{"jsonrpc":"2.0","id":1,"result":{}}'
        ;;
    *'"server/discover"'*)
        case "$2" in
        refuse) echo '{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no"}}' ;;
        exit) exit 1 ;;
        esac
        ;;
    *'"die"'*) exit 3 ;;
    esac
done
