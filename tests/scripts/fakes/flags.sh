# shellcheck shell=bash
# Sets WORDS, VALUE[flag] and CHANGES from the arguments; "takes FLAG..." refuses other flags, as the real programs do.

is() { [[ -e $MACHINE/is/$1 ]]; }
WORDS=()
CHANGES=()
declare -A VALUE=()
while (($#)); do
  case $1 in
    --all | --quiet) VALUE[${1#--}]=1; shift ;;
    --change) CHANGES+=("$2"); VALUE[change]=1; shift 2 ;;
    --*=*) name=${1%%=*}; VALUE[${name#--}]=${1#*=}; shift ;;
    --*) VALUE[${1#--}]=$2; shift 2 ;;
    *) WORDS+=("$1"); shift ;;
  esac
done
takes() {
  local flag
  for flag in "${!VALUE[@]}"; do
    [[ " $* " == *" $flag "* ]] || { echo "ERROR: unknown flag: --$flag" >&2; exit 1; }
  done
}
