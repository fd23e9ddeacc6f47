#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the guest's DHCP client does with its answer.
case $1 in
bound | renew)
	ifconfig "$interface" "$ip" netmask "${subnet:-255.255.255.0}" up
	for r in $router; do
		route add default gw "$r" dev "$interface" 2>/dev/null
	done
	: >/etc/resolv.conf
	for d in $dns; do
		echo "nameserver $d" >>/etc/resolv.conf
	done
	;;
esac
