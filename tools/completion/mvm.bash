# bash completion for mvm; install as /usr/share/bash-completion/completions/mvm
# Verbs, options and their values are what `mvm help` tells; names are those of the caller's VMs.

# _mvm_value VERB OPTION: what stands for its value in the help; nothing for a switch
_mvm_value() {
	mvm help "$1" 2>/dev/null | sed -nE 's/^  ((-.), |    )(--[a-z0-9-]+) ([^ ]+) .*/\2 \3 \4/p' |
		awk -v option="$2" '$(NF - 1) == option || $1 == option { print $NF }'
}

_mvm_vms() {
	local all=''
	case $1 in rm | start | logs | wait) all=-a ;; esac
	mvm ps $all -q 2>/dev/null
	mvm ps $all --format json 2>/dev/null | sed -n 's/^ *"name":"\(.\{1,\}\)",$/\1/p'
}

_mvm_networks() {
	mvm network ls 2>/dev/null | sed '1d; s/ .*//'
}

_mvm_files() {
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

_mvm() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]} value='' i
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "$(mvm help 2>/dev/null | sed -n 's/^  mvm \([a-z]*\) .*/\1/p')" -- "$cur")
		return
	fi
	for ((i = 2; i < COMP_CWORD; i++)); do
		[ "${COMP_WORDS[i]}" != -- ] || return # behind it: the command in the VM, whose files are not here
	done
	case $prev in -*) value=$(_mvm_value "$verb" "$prev") ;; esac
	case $value in
	'') ;;
	FILE*) _mvm_files "$cur"; return ;;
	LAYER*) mapfile -t COMPREPLY < <(compgen -W "cgroup landlock landlock-net lsm" -- "$cur"); return ;;
	MODE*) mapfile -t COMPREPLY < <(compgen -W "none user bridge= tap= socket= $(_mvm_networks)" -- "$cur"); return ;;
	KEY=N*)
		compopt -o nospace 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -W "rbps= wbps= riops= wiops=" -- "$cur")
		return
		;;
	[a-z]*\|*)
		mapfile -t COMPREPLY < <(compgen -W "$(printf %s "$value" | sed 's/\[[^]]*\]//g; s/:PATH/:/; s/|/ /g')" -- "$cur")
		return
		;;
	*) return ;; # it is the user's to say
	esac
	case $verb:$cur in
	*:-*) ;;
	cp:* | verify:*)
		_mvm_files "$cur"
		[ "${#COMPREPLY[@]}" -eq 0 ] && [ "$verb" = cp ] || return
		;;
	help:*) mapfile -t COMPREPLY < <(compgen -W "$(mvm help 2>/dev/null | sed -n 's/^  mvm \([a-z]*\) .*/\1/p')" -- "$cur"); return ;;
	esac
	value="$(mvm help "$verb" 2>/dev/null | grep -oE '^  (-., |    )--[a-z0-9-]+' | sed 's/.* //') --help"
	case $verb in
	run) value+=' --' ;;
	network) value+=" create ls inspect rm $(_mvm_networks)" ;;
	ps | metrics | events | doctor | version | verify | help) ;;
	*) value+=" $(_mvm_vms "$verb")" ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$value" -- "$cur")
}
complete -F _mvm mvm
